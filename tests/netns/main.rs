//! Turnwire on a network of its own: three hosts, real frames, the kernel's own behaviour.

mod accounts;
mod af_xdp;
mod af_xdp_faults;
mod af_xdp_queues;
mod churn;
mod expiry;
mod guest;
mod host_traffic;
mod indications;
mod ipsec;
mod isolation;
mod lifecycle;
mod memory;
mod mtu;
mod neighbours;
mod no_loss;
mod offloads;
mod parity;
mod past_the_stack;
mod path_mtu;
mod privilege;
mod refused;
mod slow_path;
mod spreading;
mod unreachable;
mod wire_format;
