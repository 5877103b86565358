"""Files that people, other programs and earlier runs wrote: opened without waiting, read without trust."""
