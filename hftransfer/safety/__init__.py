"""What a stranger's files and processes may do: a fence around a process, and what may be unpacked."""
