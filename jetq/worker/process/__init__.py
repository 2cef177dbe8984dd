"""The process of a worker, watched from inside and from outside."""
