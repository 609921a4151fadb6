"""The job around the method: settings, training, detection, evaluation, and the folder of a run."""
