//! How the NATs on the way behave (RFC 4787), by RFC 5780's tests or by two servers.
//!
//! ```text
//!   mapping      ask the server's address and port, its other address, its other address and port:
//!                where the mapped address changes, there it depends
//!   filtering    let the server answer from its other address, from its other port
//!   hairpinning  send from one socket to the mapped address of another one
//!   lifetime     leave a binding idle, and let an answer to another socket's request be sent to it
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde::Serialize;
use turn::attribute::ChangeRequest;

use crate::binding::{Answer, Ask, answer_arrives, arrives, by_socket, request};

/// The first idle time that is tried, in seconds; each is twice the one before.
const IDLE_FIRST: u64 = 15;

/// What decides about the mapped address (RFC 4787 section 4.1, RFC 5780 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// There is no NAT.
    None,
    /// One mapped address, whoever is sent to.
    EndpointIndependent,
    /// One for each address that is sent to.
    AddressDependent,
    /// One for each address and port ("symmetric").
    AddressAndPortDependent,
    /// One of the latter two: a second server alone cannot tell them apart.
    Dependent,
    /// It could not be found out.
    Unknown,
}

/// Who may send to a mapped address (RFC 4787 section 5, RFC 5780 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Anybody ("full cone").
    EndpointIndependent,
    /// Any port of an address that was sent to ("restricted").
    AddressDependent,
    /// An address and port that was sent to ("port restricted").
    AddressAndPortDependent,
    /// It could not be found out.
    Unknown,
}

/// How long an idle binding lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lifetime {
    /// It lived for so many seconds.
    pub at_least_secs: u64,
    /// After so many it was gone; `None`: it outlived the probe.
    pub less_than_secs: Option<u64>,
}

/// What was found out.
#[derive(Clone, Debug, Serialize)]
pub struct Nat {
    /// This end, before any NAT.
    pub local: Option<SocketAddr>,
    /// As the server sees it.
    pub mapped: Option<SocketAddr>,
    /// Whether the server has told its other address (RFC 5780).
    pub by_rfc5780: bool,
    /// See [`Mapping`].
    pub mapping: Mapping,
    /// See [`Filtering`].
    pub filtering: Filtering,
    /// Whether two hosts behind this NAT reach each other by their mapped addresses.
    pub hairpinning: Option<bool>,
    /// Only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// Why something is unknown.
    pub notes: Vec<String>,
}

/// A socket on the address that reaches `server`, so that mapped and local address can be compared.
fn socket(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let scout = UdpSocket::bind(SocketAddr::new(any, 0))?;
    scout.connect(server)?;
    UdpSocket::bind(SocketAddr::new(scout.local_addr()?.ip(), 0))
}

/// Finds out what it can.
pub(crate) fn probe(
    server: SocketAddr,
    second: Option<SocketAddr>,
    lifetime_max: Option<Duration>,
) -> Nat {
    let mut nat = Nat {
        local: None,
        mapped: None,
        by_rfc5780: false,
        mapping: Mapping::Unknown,
        filtering: Filtering::Unknown,
        hairpinning: None,
        lifetime: None,
        notes: Vec::new(),
    };
    if let Err(error) = nat.look(server, second, lifetime_max) {
        nat.notes.push(error);
    }
    nat
}

impl Nat {
    fn look(
        &mut self,
        server: SocketAddr,
        second: Option<SocketAddr>,
        lifetime_max: Option<Duration>,
    ) -> Result<(), String> {
        let here = socket(server).map_err(|error| error.to_string())?;
        let local = here.local_addr().map_err(|error| error.to_string())?;
        self.local = Some(local);
        let first = by_socket(&here, server, Ask::default(), true)?;
        let first = first.ok_or("no answer to Binding requests by UDP")?;
        self.mapped = Some(first.mapped);
        self.by_rfc5780 = first.other.is_some();
        let natted = first.mapped != local;
        self.mapping = match (natted, first.other, second) {
            (false, _, _) => Mapping::None,
            (true, Some(other), _) => mapping(&here, server, first, other)?,
            (true, None, Some(second)) => self.by_two(&here, first, second)?,
            (true, None, None) => {
                self.notes.push(
                    "the server does not offer RFC 5780: with a second server the mapping can be \
                     told"
                        .into(),
                );
                Mapping::Unknown
            }
        };
        match first.other {
            Some(other) => self.filtering = self.filtering(server, other)?,
            None => self.notes.push("without RFC 5780 the filtering cannot be told".into()),
        }
        if natted {
            self.hairpinning = Some(hairpinning(server)?);
        }
        if let Some(max) = lifetime_max {
            self.lifetime = self.lifetime(server, max)?;
        }
        Ok(())
    }

    fn by_two(
        &mut self,
        here: &UdpSocket,
        first: Answer,
        second: SocketAddr,
    ) -> Result<Mapping, String> {
        Ok(match by_socket(here, second, Ask::default(), true)? {
            None => {
                self.notes.push(format!("the second server, {second}, does not answer"));
                Mapping::Unknown
            }
            Some(answer) if answer.mapped == first.mapped => Mapping::EndpointIndependent,
            Some(_) => Mapping::Dependent,
        })
    }

    /// On sockets of their own: what was sent to before may answer.
    fn filtering(&mut self, server: SocketAddr, other: SocketAddr) -> Result<Filtering, String> {
        let open = || socket(server).map_err(|error| error.to_string());
        let here = open()?;
        // Opens the binding.
        by_socket(&here, server, Ask::default(), true)?.ok_or("the server fell silent")?;
        let change = |ip| Ask { change: ChangeRequest { ip, port: true }, response_port: None };
        if by_socket(&here, server, change(true), false)?.is_some() {
            return Ok(Filtering::EndpointIndependent);
        }
        if by_socket(&here, server, change(false), false)?.is_some() {
            return Ok(Filtering::AddressDependent);
        }
        // Erratum 7971: silence says something only if the other address can be reached at all.
        if by_socket(&open()?, other, Ask::default(), true)?.is_none() {
            self.notes.push(format!(
                "the server's other address, {other}, does not answer: the filtering is unknown"
            ));
            return Ok(Filtering::Unknown);
        }
        Ok(Filtering::AddressAndPortDependent)
    }

    fn lifetime(&mut self, server: SocketAddr, max: Duration) -> Result<Option<Lifetime>, String> {
        let mut lived = 0;
        let mut idle = IDLE_FIRST.min(max.as_secs().max(1));
        let mut gone = None;
        while idle <= max.as_secs() {
            match survives(server, Duration::from_secs(idle))? {
                None => {
                    self.notes.push(
                        "the server does not take RESPONSE-PORT: the lifetime is unknown".into(),
                    );
                    return Ok(None);
                }
                Some(true) if idle == max.as_secs() => {
                    lived = idle;
                    break;
                }
                Some(true) => {
                    lived = idle;
                    idle = (idle * 2).min(max.as_secs());
                }
                Some(false) => {
                    gone = Some(idle);
                    break;
                }
            }
        }
        Ok(Some(Lifetime { at_least_secs: lived, less_than_secs: gone }))
    }
}

/// RFC 5780 section 4.3, tests II and III.
fn mapping(
    here: &UdpSocket,
    server: SocketAddr,
    first: Answer,
    other: SocketAddr,
) -> Result<Mapping, String> {
    let silent = || "the server's other address does not answer".to_owned();
    let other_address = SocketAddr::new(other.ip(), server.port());
    let second = by_socket(here, other_address, Ask::default(), true)?.ok_or_else(silent)?;
    if second.mapped == first.mapped {
        return Ok(Mapping::EndpointIndependent);
    }
    let third = by_socket(here, other, Ask::default(), true)?.ok_or_else(silent)?;
    Ok(if third.mapped == second.mapped {
        Mapping::AddressDependent
    } else {
        Mapping::AddressAndPortDependent
    })
}

/// RFC 5780 section 4.5.
fn hairpinning(server: SocketAddr) -> Result<bool, String> {
    let open = || socket(server).map_err(|error| error.to_string());
    let (one, two) = (open()?, open()?);
    let target = by_socket(&two, server, Ask::default(), true)?.ok_or("the server fell silent")?;
    // A NAT that filters lets in only whom the other has sent to.
    let source = by_socket(&one, server, Ask::default(), true)?.ok_or("the server fell silent")?;
    let (_, bytes) = request(Ask::default());
    for _ in 0..3 {
        let _ = two.send_to(b"open", source.mapped);
        let _ = one.send_to(&bytes, target.mapped);
        if arrives(&two, &bytes, Duration::from_millis(300)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// RFC 5780 section 4.6: whether an idle binding still takes what comes for it. `None`: the server
/// does not take RESPONSE-PORT.
fn survives(server: SocketAddr, idle: Duration) -> Result<Option<bool>, String> {
    let open = || socket(server).map_err(|error| error.to_string());
    let (sleeper, waker) = (open()?, open()?);
    let bound =
        by_socket(&sleeper, server, Ask::default(), true)?.ok_or("the server fell silent")?;
    let port = bound.mapped.port();
    let redirected = |limit: Duration| -> Result<bool, String> {
        for _ in 0..3 {
            let (id, bytes) = request(Ask { response_port: Some(port), ..Ask::default() });
            waker.send_to(&bytes, server).map_err(|error| error.to_string())?;
            if answer_arrives(&sleeper, id, limit) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if !redirected(Duration::from_millis(500))? {
        return Ok(None);
    }
    std::thread::sleep(idle);
    redirected(Duration::from_secs(1)).map(Some)
}
