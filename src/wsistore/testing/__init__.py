"""For tests of wsistore and of what is built on it: contract suites, faulty stores, a manual clock, made-up slides."""
