//! Lanes: further sockets of each worker on each listening address, over which the kernel spreads
//! clients while a worker is behind.

use crate::config::{Config, StartError, Tuning, lanes_max};
use crate::link::socket::{Bound, Spreading, bind_listener, descriptors_max};
use mio::Waker;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Binds lanes, by worker: one on each address, then another on each. None where the kernel does not
/// grant them all, since clients are relayed without them as well.
pub(super) fn bind_lanes(
    addresses: &[SocketAddr],
    workers: usize,
    tuning: &Tuning,
) -> Vec<Vec<Bound>> {
    let rows = rows(tuning.lanes, workers * addresses.len(), descriptors_max());
    let none = || (0..workers).map(|_| Vec::new()).collect();
    let mut lanes: Vec<Vec<Bound>> = none();
    // for each address its sockets are bound worker by worker: programs count on that order
    let bound = (0..rows).flat_map(|_| addresses).try_for_each(|&address| {
        lanes.iter_mut().try_for_each(|lanes| {
            lanes.push(bind_listener(address, true, tuning.lane)?);
            io::Result::Ok(())
        })
    });
    if bound.is_err() { none() } else { lanes }
}

/// Has the kernel choose among the sockets of each address, once all are bound; nothing where its own
/// choice will do. Where it refuses and DTLS does not depend on it, there are no lanes.
pub(super) fn steer(
    config: &Config,
    listen: &[SocketAddr],
    listeners: &[Vec<Bound>],
    lanes: &mut [Vec<Bound>],
    wakers: Vec<Arc<Waker>>,
) -> Result<Option<Arc<Spreading>>, StartError> {
    let dtls = |at: &SocketAddr| at.port() != 0 && config.sessions.dtls_listen.contains(at);
    let addresses: Vec<_> = listen.iter().map(|&at| (at, dtls(&at))).collect();
    let beside_dtls = addresses.iter().find(|(_, dtls)| *dtls);
    let rows = lanes.first().map_or(0, Vec::len) / listen.len().max(1);
    if rows == 0 && beside_dtls.is_none() {
        return Ok(None);
    }
    let spreading = Spreading::new(&addresses, wakers, rows);
    match (spreading.begin(listeners.first().into_iter().flatten()), beside_dtls) {
        (Ok(()), _) => Ok((rows > 0).then(|| Arc::new(spreading))),
        (Err(source), Some(&(address, _))) => Err(StartError::Listen { address, source }),
        (Err(_), None) => {
            lanes.iter_mut().for_each(Vec::clear);
            Ok(None)
        }
    }
}

/// Lanes of each of so many listeners.
fn rows(wanted: usize, listeners: usize, descriptors: usize) -> usize {
    wanted.min(lanes_max(descriptors) / listeners.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_leave_descriptors_for_relay_ports_and_are_fewer_for_many_workers() {
        assert_eq!(rows(64, 2, 20_000), 64);
        assert_eq!(rows(64, 2, 1024), 64);
        assert_eq!(rows(64, 4, 1024), 32);
        assert_eq!(rows(64, 128, 1 << 20), 8);
        assert_eq!(rows(64, 2000, 1 << 20), 0);
        assert_eq!(rows(0, 2, 20_000), 0);
    }
}
