"""One training loop, what learns from texts and from pictures, and the trainings of the lessons."""
