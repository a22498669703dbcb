//! CPU time of processes: the server's, if it is on this host, and our own.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;

use crate::server::Transport;
use crate::sys::{clock_ticks_per_second, is_bindable};

/// User and system time of a process and its threads in seconds; `None` if there is no such
/// process. What the kernel does for it in softirq is not in it.
pub fn process_secs(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything. Fields 14 and 15 count from the process id.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(ticks as f64 / clock_ticks_per_second() as f64)
}

/// The process that listens at this address of this host, if this user may see it.
pub fn listener_of(server: SocketAddr, transport: Transport) -> Option<u32> {
    if !is_bindable(server.ip()) {
        return None;
    }
    let protocol = if transport == Transport::Udp { "udp" } else { "tcp" };
    let sockets: HashSet<String> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/net/{protocol}{family}")).ok())
        .flat_map(|table| inodes_at(&table, server.port(), protocol == "tcp"))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        files.into_iter().flatten().flatten().any(|file| {
            let target = fs::read_link(file.path());
            target.is_ok_and(|target| target.to_str().is_some_and(|text| sockets.contains(text)))
        })
    })
}

/// Inodes of the unconnected sockets at this port in /proc/net/udp or tcp.
fn inodes_at(table: &str, port: u16, listening: bool) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(|row| {
        let mut fields = row.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let at = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        let open = remote.ends_with(":0000") && (!listening || state == "0A");
        (at == port && open).then(|| fields.nth(5)?.parse().ok())?
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn our_own_time_is_known_and_nobodys_is_not() {
        assert!(process_secs(std::process::id()).is_some());
        assert_eq!(process_secs(u32::MAX), None);
    }

    #[test]
    fn a_local_server_is_found_by_its_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listener_of(address, Transport::Udp), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener_of(address, Transport::Udp), None);
        assert_eq!(listener_of("192.0.2.1:3478".parse().unwrap(), Transport::Udp), None);
    }
}
