"""What a checkpoint is worth on patients that it never saw."""
