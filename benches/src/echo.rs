//! The least that a relay on merged and cut datagrams can do: the ceiling for Turnwire's sockets, as
//! bare XDP_TX is for its program. One listener and one socket for each client, the same buffers,
//! the same system calls, the same bytes on the wire; but who talks to whom follows from the port's
//! number. No STUN, no credentials, no permissions, no tables, no time. IPv4.
//!
//! ```text
//!  client --clients + n ── 40 00 size | data ──> listener    socket n ── data ──> peer
//!  client --clients + n <── 40 00 size | data ── listener    socket n <── data ── peer
//! ```

mod batch;

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use clap::Args;

use batch::{Batch, Poll, Way, set_option};

/// SO_RCVBUF of the listener, bytes: as Turnwire's.
const LISTENER_BUFFER: i32 = 4 << 20;
/// The same of each other socket.
const RELAY_BUFFER: i32 = 2 << 20;
/// What the poll calls the listener; the others have their client's number.
const LISTENER: u64 = u64::MAX;

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

fn socket(local: SocketAddrV4, buffer: i32) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(local).with_context(|| format!("binding {local}"))?;
    socket.set_nonblocking(true)?;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        set_option(socket.as_fd(), libc::SOL_SOCKET, option, buffer).context("its buffers")?;
    }
    set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).context("UDP_GRO")?;
    Ok(socket)
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
        let (mut relays, mut clients) = (Vec::new(), Vec::new());
        for number in 0..self.count {
            let relay = socket(at(self.relay, number)?, RELAY_BUFFER)?;
            poll.add(relay.as_fd(), number.into())?;
            relays.push(relay);
            clients.push(at(self.clients, number)?);
        }
        let listener = socket(self.listen, LISTENER_BUFFER)?;
        poll.add(listener.as_fd(), LISTENER)?;
        println!("ready");
        let (mut up, mut down) = (Batch::new(Way::ToPeers), Batch::new(Way::ToClients));
        loop {
            for event in poll.wait()? {
                if *event == LISTENER {
                    self.to_peers(&mut up, &listener, &relays)?;
                    continue;
                }
                let relay = *event as usize;
                down.receive(relays[relay].as_fd(), relay)?;
                if down.is_full() {
                    down.send(|message| Some((listener.as_fd(), clients[message.socket])));
                }
            }
            // what came by many sockets leaves by the one listener, in one call
            down.send(|message| Some((listener.as_fd(), clients[message.socket])));
        }
    }

    fn to_peers(
        &self,
        batch: &mut Batch,
        listener: &UdpSocket,
        relays: &[UdpSocket],
    ) -> io::Result<()> {
        batch.receive(listener.as_fd(), 0)?;
        batch.send(|message| {
            let number = message.port.wrapping_sub(self.clients.port());
            Some((relays.get(usize::from(number))?.as_fd(), self.peer))
        });
        Ok(())
    }
}
