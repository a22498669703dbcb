//! Everything that stands while measurements are made: sockets, allocations, channels, flows.

mod keep;
mod measure;
mod merge;
mod remote;
mod setup;

pub use measure::{Load, Measurement};
pub use setup::{Established, SetupError};
pub(crate) use setup::{connect, delete_all};

use std::sync::Arc;

use crate::control::{ControlError, Engine, Pump};
use crate::link::Link;
use crate::options::Options;
use crate::plan::{Direction, Flow};
use crate::stamp::Filler;
use crate::sys::{monotonic, wall_clock};
use crate::traffic::{Egress, Ingress};
use crate::xdp::Xdp;

const SECOND: u64 = 1_000_000_000;
/// How long deleting may take in all.
const CLOSING: u64 = 8 * SECOND;

/// Allocations and channels, ready to carry data.
pub struct Lab {
    field: Field,
    engine: Engine,
    pump: Pump,
    keeper: keep::Keeper,
    tag: u8,
    server_pid: Option<u32>,
    /// The generator, where it is none of sockets.
    xdp: Option<Xdp>,
}

/// What does not change from now on, and what all threads look at.
struct Field {
    options: Options,
    links: Vec<Arc<Link>>,
    flows: Vec<Flow>,
    egress: Vec<Egress>,
    ingress: Vec<Ingress>,
    /// The direction that ends at each socket.
    endings: Vec<Direction>,
    filler: Filler,
}

impl Lab {
    /// What it was made for.
    pub fn options(&self) -> &Options {
        &self.field.options
    }

    /// Deletes the allocations; how many the server confirmed, and the first failure.
    pub fn close(mut self) -> (usize, Option<ControlError>) {
        setup::delete_all(&mut self.engine, &mut self.pump, monotonic() + CLOSING)
    }

    /// Tags tell measurements apart; the first is anything, so that runs do not begin alike.
    fn next_tag(&mut self) -> u8 {
        self.tag = self.tag.wrapping_add(1);
        self.tag
    }
}

fn first_tag() -> u8 {
    wall_clock().subsec_nanos() as u8
}
