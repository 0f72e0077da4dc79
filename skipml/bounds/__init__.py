"""Sound bounds on model scores over regions of inputs."""
