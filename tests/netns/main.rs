//! Turnwire on a network of its own: three hosts, real frames, the kernel's own behaviour.

mod host_traffic;
mod isolation;
mod lifecycle;
mod mtu;
mod neighbours;
mod no_loss;
mod slow_path;
mod stopped;
mod wire_format;
