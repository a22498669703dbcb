//! Turnwire and clients that others wrote.
