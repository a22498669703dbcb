//! The per-packet work.
