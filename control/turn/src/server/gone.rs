//! A client's connection has ended.

use std::time::Duration;

use super::Server;
use crate::attribute::Family;
use crate::outbox::{Client, Outbox};

impl Server {
    /// The allocation ends with its connection: nobody could use it any more, as the five-tuple
    /// cannot come back (RFC 8656 section 3.2 ties the allocation to it). One with a mobility ticket
    /// waits for its client until its lifetime is over.
    pub(super) fn gone(&mut self, now: Duration, client: &Client, outbox: &mut dyn Outbox) {
        self.data_connection_gone(client);
        if let Some(slot) = self.allocations.slot_of(client)
            && !self.outlives(slot, client, now, outbox)
        {
            self.close_allocation(slot, now, outbox);
        }
    }

    /// Ends an allocation with all that is in it.
    pub(super) fn close_allocation(&mut self, slot: u32, now: Duration, outbox: &mut dyn Outbox) {
        for family in [Family::V4, Family::V6] {
            self.close_leg(slot, family, now, outbox);
        }
    }
}
