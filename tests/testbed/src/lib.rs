//! Soft platforms under their own roots: real bytes, any field of which can be made wrong and re-signed.
