//! Micro benchmarks, the load driver and side-by-side comparisons.
