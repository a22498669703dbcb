//! What the flags mean together: everything that is understood without asking the server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use dial::Trust;

use super::{ChurnArgs, GeneratorKind, LoadArgs, SearchArgs, ServerArgs, Way};
use crate::options::{Generator, Mode, Options, PeerSide};
use crate::plan::Shape;
use crate::server::{Login, Transport};

impl ServerArgs {
    /// The transport: the flag's, else the URI's, else UDP.
    pub(crate) fn transport(&self) -> Result<Transport> {
        match (self.transport, self.server.transport) {
            (Some(flag), Some(uri)) if flag != uri => {
                bail!("--transport {flag} is not what {} says", self.server)
            }
            (flag, uri) => Ok(flag.or(uri).unwrap_or(Transport::Udp)),
        }
    }

    fn tls(&self) -> Result<Option<Arc<Trust>>> {
        match self.transport()? {
            Transport::Tls => {
                let ca = self.tls_ca.as_deref();
                let trust = Trust::new(&self.server.host, ca, self.tls_insecure);
                Ok(Some(Arc::new(trust.map_err(Error::msg)?)))
            }
            _ if self.tls_ca.is_some() || self.tls_insecure => {
                bail!("--tls-ca and --tls-insecure are for --transport tls")
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn login(&self, unix: Duration) -> Result<Login> {
        let variable = |name: &str| std::env::var(name).ok();
        let flags = self.password.is_some() || self.auth_secret.is_some();
        let password = self.password.clone();
        let password = password.or_else(|| variable("TURNWIRE_LOAD_PASSWORD").filter(|_| !flags));
        let secret = self.auth_secret.clone();
        let secret = secret.or_else(|| variable("TURNWIRE_LOAD_AUTH_SECRET").filter(|_| !flags));
        Login::of(self.user.as_deref(), password.as_deref(), secret.as_deref(), unix)
    }
}

impl SearchArgs {
    /// # Errors
    /// Values that make no sense together.
    pub(crate) fn check(&self) -> Result<(f64, f64)> {
        let (Some(from), Some(up_to)) = (self.from.0, self.up_to.0) else {
            bail!("--from and --up-to are numbers: a search is for the rate itself");
        };
        if from > up_to {
            bail!("--from is above --up-to");
        }
        if self.precision < 0.001 {
            bail!("--precision is at least 0.001: no machine is steadier than that");
        }
        Ok((from, up_to))
    }
}

impl ChurnArgs {
    /// Everything that is understood without asking the server.
    pub(crate) fn options(&self, unix: Duration) -> Result<Options> {
        let load = LoadArgs {
            allocations: 1,
            channels_per_allocation: self.channels_per_allocation.max(1),
            payload: "20".parse()?,
            direction: Way::Both,
            mode: self.mode,
            relay_to_relay: false,
            peer: Vec::new(),
            peer_ip: self.peer_ip,
            generator: GeneratorKind::Socket,
            interface: Vec::new(),
            queue: 0,
            senders: 1,
            receivers: 1,
            cores: Vec::new(),
            spin: false,
            offload: false,
            drain: Duration::ZERO,
        };
        load.options(&self.server, unix)
    }
}

impl LoadArgs {
    /// Everything that is understood without asking the server.
    pub(crate) fn options(&self, server: &ServerArgs, unix: Duration) -> Result<Options> {
        let shape = Shape {
            allocations: self.allocations,
            channels: self.channels_per_allocation,
            to_peer: self.direction != Way::ToClient,
            to_client: self.direction != Way::ToPeer,
            relay_to_relay: self.relay_to_relay,
        };
        shape.check()?;
        let address = server.server.resolve()?;
        let other = |ip: &IpAddr| ip.is_ipv4() != address.is_ipv4();
        if let Some(ip) = server.local_ip.filter(other) {
            bail!("--local-ip {ip} cannot reach {address}: it is of the other address family");
        }
        let generator = self.generator(server)?;
        Ok(Options {
            uri: server.server.to_string(),
            server: address,
            transport: server.transport()?,
            tls: server.tls()?,
            login: server.login(unix)?,
            generator,
            interfaces: self.interface.clone(),
            shape,
            mode: self.mode,
            mix: self.payload.clone(),
            peer: self.peer_side()?,
            local: server.local_ip,
            in_flight: usize::from(server.in_flight),
            senders: usize::from(self.senders),
            receivers: usize::from(self.receivers),
            cores: self.cores()?,
            spin: self.spin,
            offload: self.offload,
            drain: self.drain,
            server_pid: server.server_pid,
        })
    }

    /// The generator, if what else was asked for is something that it does.
    fn generator(&self, server: &ServerArgs) -> Result<Generator> {
        let generator = match self.generator {
            GeneratorKind::Socket if self.interface.is_empty() => return Ok(Generator::Socket),
            GeneratorKind::Socket => bail!("--interface is for --generator kernel and af-xdp"),
            GeneratorKind::Kernel => Generator::Kernel,
            GeneratorKind::AfXdp => Generator::AfXdp { queue: self.queue },
        };
        let transport = server.transport()?;
        if self.interface.is_empty() {
            bail!("--generator {generator} needs --interface DEV, by which the server is reached");
        }
        if transport != Transport::Udp {
            bail!(
                "--generator {generator} writes UDP frames: --transport {transport} needs sockets"
            );
        }
        if self.mode == Mode::Send {
            bail!("--generator {generator} sends ChannelData: --mode send needs sockets");
        }
        if !self.peer.is_empty() {
            bail!(
                "--generator {generator} stamps datagrams in a way of its own, which a \
                 turnwire-load sink does not know: --peer needs sockets"
            );
        }
        if self.offload || self.senders > 1 {
            bail!("--offload and --senders are for sockets, not for --generator {generator}");
        }
        Ok(generator)
    }

    fn peer_side(&self) -> Result<PeerSide> {
        let mut families = self.peer.iter().map(SocketAddr::is_ipv6);
        if let Some(first) = families.next()
            && families.any(|family| family != first)
        {
            bail!("--peer: all sinks must be of one address family");
        }
        Ok(match (self.relay_to_relay, self.peer.is_empty()) {
            (true, _) => PeerSide::Relay,
            (false, true) => PeerSide::Own(self.peer_ip),
            (false, false) => PeerSide::Sink(self.peer.clone()),
        })
    }

    fn cores(&self) -> Result<Vec<usize>> {
        let threads = usize::from(self.senders) + usize::from(self.receivers);
        if !self.cores.is_empty() && self.cores.len() != threads {
            bail!("--cores lists {} cores for {threads} threads", self.cores.len());
        }
        for core in &self.cores {
            // Tried on a thread of its own, so that this one stays free.
            let pinned = std::thread::scope(|scope| scope.spawn(|| crate::sys::pin(*core)).join());
            pinned
                .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended")))
                .with_context(|| format!("--cores {core}: this process may not run there"))?;
        }
        Ok(self.cores.clone())
    }
}
