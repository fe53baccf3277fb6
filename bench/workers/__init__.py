"""The warm processes in which ours and the peers run, each under its own interpreter."""
