"""The value of a workflow: it is the mark of the last step, whatever it is, and is given to who expects its type."""

from __future__ import annotations

import pytest

from jetq import Jetq, ResultError, group, task
from jetq.encoding.sealer import Sealer
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.marking import standing_mark
from tests.apps.fresh import no_app_yet, own_tasks
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> Jetq:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    return fresh_app(nats_url)


@pytest.mark.parametrize("word", ["failed", "done"])
async def test_a_value_that_says_failed_is_no_failure(app: Jetq, word: str) -> None:
    """A member whose mark is not found is run again when it is delivered again."""

    @task(name="tests.say")
    async def say(word: str) -> str:
        return word

    async with working(app):
        workflow = await say.bind(word).named("say").adelay()
        assert await workflow.aresult(20) == word
        life, _ = await open_life(await app.session.broker(), Sealer(None), workflow.id)
        assert life is not None
        assert await standing_mark(life, "say", 0) == "ok"


async def test_the_value_of_another_work_under_the_same_id_is_none_of_this_one(app: Jetq) -> None:
    @task(name="tests.say")
    async def say(word: str) -> str:
        return word

    async with working(app):
        assert await (await say.bind("a").adelay(id="one")).aresult(20) == "a"
        other = await group([say.bind("a")]).adelay(id="one")
        assert other.disposition == "existing"
        with pytest.raises(ResultError, match="the value of workflow one is not what its work is annotated to give"):
            await other.aresult(20)
