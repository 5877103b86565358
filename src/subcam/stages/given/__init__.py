"""The stages that take in what another program made, one file each."""
