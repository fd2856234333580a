"""One study on its way: indexed, complete, prepared, graded, reported."""
