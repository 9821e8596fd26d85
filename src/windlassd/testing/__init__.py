"""Fakes, conformance suites and a harness for tests; shipped, so that others can test their engines and stores."""
