//! Ports for servers that have to be told theirs.
//!
//! A port that the kernel chose for us and got back may be the next one that it chooses for somebody:
//! a client of a test beside this one has it before the server does. So these are from below the
//! kernel's range, and no two calls of a process have the same.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Where they begin; what is lower belongs to services.
const FIRST: u16 = 12_000;
/// Where the kernel's range begins unless somebody has set it.
const USUAL_END: u16 = 32_768;

/// A port that is free over UDP and TCP at each of these addresses.
///
/// # Panics
/// There is none.
pub fn free(at: &[IpAddr]) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|range| range.split_whitespace().next()?.parse().ok());
    let end = first.filter(|end| *end > FIRST + 1000).unwrap_or(USUAL_END);
    let places = end - FIRST;
    // other test programs begin elsewhere
    let own = (std::process::id() % 251) as u16 * 41;
    for _ in 0..places {
        let port = FIRST + own.wrapping_add(NEXT.fetch_add(1, Relaxed)) % places;
        let is_free = |ip: &IpAddr| {
            UdpSocket::bind((*ip, port)).is_ok() && TcpListener::bind((*ip, port)).is_ok()
        };
        if at.iter().all(is_free) {
            return port;
        }
    }
    panic!("no port below {end} is free at {at:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_each_another_and_never_the_kernels_to_choose() {
        let at = ["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let ports: Vec<u16> = (0..100).map(|_| free(&at)).collect();
        assert_eq!(ports.iter().collect::<std::collections::HashSet<_>>().len(), 100);
        let chosen = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(ports.iter().all(|port| *port < chosen), "{chosen}");
        // and one that somebody has is passed over
        let held = UdpSocket::bind((at[1], ports[99] + 1)).unwrap();
        assert_ne!(free(&at), held.local_addr().unwrap().port());
    }
}
