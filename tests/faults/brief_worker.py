"""`python -m tests.faults.brief_worker …`: a Celery worker that shows the network 8 slices instead of 56.

The network is by far the longest part of a study on a CPU, and these tests grade many. All else is real.
"""

from celery.__main__ import main

from model.space import stack

stack.SLICES = range(50, 106, 7)

if __name__ == "__main__":
    main()
