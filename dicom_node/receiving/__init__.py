"""From the socket to the disk: the Storage SCP and its spool."""
