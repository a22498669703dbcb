//! The least that a relay on merged and cut datagrams can do: the ceiling for Turnwire's sockets, as
//! bare XDP_TX is for its program. Lanes for clients as Turnwire has them while it is behind, but always,
//! and one socket for each client; the same buffers, the same system calls, the same bytes on the wire;
//! but who talks to whom follows from the port's number. No STUN, no credentials, no permissions, no
//! tables, no time. IPv4.
//!
//! ```text
//!  client --clients + n ── 40 00 size | data ──> its lane    socket n ── data ──> peer
//!  client --clients + n <── 40 00 size | data ── lane 0      socket n <── data ── peer
//! ```

mod batch;

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use clap::Args;
use socket2::{Domain, Socket, Type};

use batch::{Batch, Message, Poll, Way, set_option};

/// SO_RCVBUF of each lane, bytes: as Turnwire's.
const LANE_BUFFER: i32 = 1 << 20;
/// The same of each other socket.
const RELAY_BUFFER: i32 = 2 << 20;
/// Sockets that clients send to; the kernel spreads clients over them. As many as Turnwire's.
const LANES: u64 = 128;

/// Where it listens, and who is who.
#[derive(Debug, Args)]
pub(crate) struct Echo {
    /// Where clients send to
    #[arg(long)]
    listen: SocketAddrV4,
    /// Address and first port of the sockets in front of the peer
    #[arg(long)]
    relay: SocketAddrV4,
    /// Address and first port of the clients
    #[arg(long)]
    clients: SocketAddrV4,
    /// The peer of them all
    #[arg(long)]
    peer: SocketAddrV4,
    /// How many clients
    #[arg(long)]
    count: u16,
}

fn socket(local: SocketAddrV4, shared: bool, buffer: i32) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("making a socket")?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(shared)?;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        set_option(socket.as_fd(), libc::SOL_SOCKET, option, buffer).context("its buffers")?;
    }
    set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).context("UDP_GRO")?;
    socket.bind(&local.into()).with_context(|| format!("binding {local}"))?;
    Ok(socket.into())
}

fn at(first: SocketAddrV4, number: u16) -> Result<SocketAddrV4> {
    let port = first.port().checked_add(number).context("ports end at 65535")?;
    Ok(SocketAddrV4::new(*first.ip(), port))
}

impl Echo {
    /// Serves until it is killed; prints `ready` once it does.
    ///
    /// # Errors
    /// An address is not ours, or the kernel lacks UDP_GRO.
    pub(crate) fn serve(&self) -> Result<()> {
        ensure!(self.count > 0, "--count is 1 at least");
        let mut poll = Poll::new()?;
        let (mut lanes, mut relays, mut clients) = (Vec::new(), Vec::new(), Vec::new());
        // the poll names the lanes first, and then the others
        for number in 0..LANES {
            let lane = socket(self.listen, true, LANE_BUFFER)?;
            poll.add(lane.as_fd(), number)?;
            lanes.push(lane);
        }
        for number in 0..self.count {
            let relay = socket(at(self.relay, number)?, false, RELAY_BUFFER)?;
            poll.add(relay.as_fd(), LANES + u64::from(number))?;
            relays.push(relay);
            clients.push(at(self.clients, number)?);
        }
        println!("ready");
        let (mut up, mut down) = (Batch::new(Way::ToPeers), Batch::new(Way::ToClients));
        let to_peer = |message: &Message| {
            let number = message.port.wrapping_sub(self.clients.port());
            Some((relays.get(usize::from(number))?.as_fd(), self.peer))
        };
        let to_client = |message: &Message| Some((lanes[0].as_fd(), clients[message.socket]));
        loop {
            for event in poll.wait()? {
                if let Some(lane) = lanes.get(*event as usize) {
                    up.receive(lane.as_fd(), 0)?;
                    if up.is_full() {
                        up.send(to_peer);
                    }
                } else {
                    let relay = (*event - LANES) as usize;
                    down.receive(relays[relay].as_fd(), relay)?;
                    if down.is_full() {
                        down.send(to_client);
                    }
                }
            }
            // what came by many sockets leaves in as few calls as can be
            up.send(to_peer);
            down.send(to_client);
        }
    }
}
