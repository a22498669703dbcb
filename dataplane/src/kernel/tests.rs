//! The program, attached and in step, between real sockets.
//!
//! ```text
//!  client                      relay (this thread)                     peer
//!  c0 192.0.2.2        ─ veth ─ eth0 192.0.2.1
//!     2001:db8:1::2                  2001:db8:1::1
//!                                eth1 198.51.100.1     ─ veth ─ p0 198.51.100.2
//!                                     2001:db8:2::1                2001:db8:2::2
//! ```

mod attaching;
mod forwarding;
mod lab;
mod permissions;
