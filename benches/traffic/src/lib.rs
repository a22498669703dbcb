//! Traffic through a TURN relay, made and judged by XDP programs (ebpf/object/traffic.o).
//!
//! ```text
//!             far end                                   relay
//!  generator ──redirect──> interface ═══════════> listener, ChannelData ──┐
//!  (test run of live frames,                                              │ the relay under test,
//!   paced by the clock)                                                   │ or a bare program
//!  sink <──XDP── interface <═════════════════════ relayed address ────────┘
//! ```
//!
//! The generator is one long BPF_PROG_TEST_RUN whose frames are redirected to an interface: it paces
//! itself with a token bucket, so nothing in userspace is in its way. The sink is an XDP program
//! that takes what came through, checks and counts it, and passes on whatever is not ours.
//!
//! ```no_run
//! use traffic::{Channel, Offer, Path, Place, Plan, Traffic};
//!
//! fn loss(there: Path, back: Path, channel: Channel) -> anyhow::Result<u64> {
//!     let mut traffic = Traffic::load(&Plan::new([there, back], 1, 160))?;
//!     traffic.attach_sink(&[there.interface])?;
//!     traffic.set_channel(0, &channel);
//!     let time = std::time::Duration::from_secs(1);
//!     let sent = traffic.send(Offer::Rate(1e6), time, Place::default())?;
//!     let received = traffic.received()?;
//!     Ok(sent.packets.iter().sum::<u64>() - received.right.iter().sum::<u64>())
//! }
//! ```
//!
//! Everything happens in the calling thread's network namespace: interfaces are known by their
//! index there. It needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; AF_XDP CAP_NET_RAW too.

#[path = "../../../ebpf/program/src/traffic_abi.rs"]
pub mod abi;
mod counts;
mod frame;
pub mod net;
pub mod packet;
mod plan;
mod run;
mod scheme;
pub mod sys;
mod traffic;
pub mod xsk;

pub use counts::{Arrivals, Received, Seen};
pub use plan::{Channel, Crossing, Plan, Ways};
pub use run::{Offer, Order, Place, Sent};
pub use scheme::{Flow, Leg, Mac, Path, Scheme, Wrapper};
pub use traffic::{Bare, BareLinks, Mode, Traffic};
