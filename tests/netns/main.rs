//! Turnwire on a network of its own: three hosts, real frames, the kernel's own behaviour.

mod no_loss;
