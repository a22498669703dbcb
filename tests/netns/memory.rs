//! What an allocation costs in memory, and what the maps do.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use turnwire_tests::client::Client;
use turnwire_tests::lab::{Family, Host, Topology, in_lab};
use turnwire_tests::relay::{RelayUnderTest, Tier};

/// Allocations of one channel each.
const ALLOCATIONS: u64 = 10_000;
/// Of the process's own memory, for each.
const BYTES_MAX: u64 = 4096;
const MAP_BYTES_MAX: u64 = 64 << 20;

#[test]
fn ten_thousand_allocations_with_a_channel_cost_four_kibibytes_each_at_most() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::Native)?;
        raise_descriptor_limit()?;
        let local = Family::V4.client();
        let sockets = lab.many_udp(Host::Client, local, ALLOCATIONS as usize + 1)?;
        // one first, so that what every relay needs once is not counted
        let (mut clients, mut before) = (Vec::new(), 0);
        for (number, socket) in sockets.into_iter().enumerate() {
            let client = call(socket, number).with_context(|| format!("allocation {number}"))?;
            clients.push(client);
            if number == 0 {
                before = own_bytes(relay.pid())?;
            }
        }
        let each = own_bytes(relay.pid())?.saturating_sub(before) / ALLOCATIONS;

        let metrics = relay.metrics()?;
        let maps = metrics.sum("turnwire_map_memory_bytes", &[]);
        println!("{each} bytes of the process's own memory each; {maps} bytes of maps");
        ensure!(metrics.sum("turnwire_allocations", &[]) == ALLOCATIONS + 1, "all are open");
        ensure!(metrics.sum("turnwire_channels", &[]) == ALLOCATIONS + 1, "all are bound");
        ensure!(metrics.sum("turnwire_xdp_routes", &[]) >= ALLOCATIONS, "all are published");
        ensure!(each <= BYTES_MAX, "an allocation costs {each} bytes");
        ensure!(maps > 0 && maps <= MAP_BYTES_MAX, "the maps cost {maps} bytes");
        ensure!(metrics.sum("process_resident_memory_bytes", &[]) > 0, "the metrics tell");
        Ok(())
    });
}

fn call(socket: UdpSocket, number: usize) -> Result<Client> {
    let mut client = Client::over(socket, Family::V4)?;
    client.allocate(Family::V4)?;
    let port = 1024 + (number % 60_000) as u16;
    client.bind(0x4000, SocketAddr::new(Family::V4.peer(), port))?;
    Ok(client)
}

/// Anonymous memory: the process's own, without files and without the maps it shares.
fn own_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("RssAnon")?;
    let kibibytes = line.split_whitespace().nth(1).context("a number")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// Each client keeps its socket: two with one address and port would be one client.
fn raise_descriptor_limit() -> Result<()> {
    turnwire_tests::namespace::raise_descriptor_limit(ALLOCATIONS + 1000)
}
