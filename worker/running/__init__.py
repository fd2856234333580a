"""The processes and databases of one machine, as `gliograde up` starts them."""
