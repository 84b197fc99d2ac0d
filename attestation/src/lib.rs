//! Evidence bytes become verified claims, or a rejection that names the check.
