//! The sealed-model format: manifest, chunks, seal, open, random access.
