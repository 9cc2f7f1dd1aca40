"""The training loop, evaluation, schedules and augmentation, on the device."""
