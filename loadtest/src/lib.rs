//! Clients for load and correctness runs.
