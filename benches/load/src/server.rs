//! Which server, and who we are to it.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use turn::credentials::{prepare, rest_password};

/// How a client talks to the server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams
    Udp,
    /// A stream, framed as RFC 8656 section 12.5 says
    Tcp,
    /// The same inside TLS
    Tls,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        })
    }
}

/// A server as it was written: `turn:HOST[:PORT][?transport=udp|tcp]`, `turns:HOST[:PORT]`, or
/// `HOST[:PORT]` (RFC 7065).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// Name or address, without brackets.
    pub host: String,
    /// The port; that of the scheme when none is given.
    pub port: u16,
    /// What the URI says about the transport.
    pub transport: Option<Transport>,
}

/// Why a server was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not turn:HOST[:PORT][?transport=udp|tcp], turns:HOST[:PORT] or HOST[:PORT]")]
pub struct UriError(String);

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        let error = || UriError(text.to_owned());
        let (secure, rest) = match text.split_once(':') {
            Some(("turn", rest)) => (false, rest),
            Some(("turns", rest)) => (true, rest),
            _ => (false, text),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = match (query, secure) {
            ("", false) => None,
            ("transport=udp", false) => Some(Transport::Udp),
            ("transport=tcp", false) => Some(Transport::Tcp),
            ("" | "transport=tcp", true) => Some(Transport::Tls),
            _ => return Err(error()),
        };
        let (host, port) = split_port(place).ok_or_else(error)?;
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(error());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(error)?,
            None if secure => 5349,
            None => 3478,
        };
        Ok(Uri { host: host.to_owned(), port, transport })
    }
}

/// Host and port; an IPv6 address has brackets, or no port.
fn split_port(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after {
            "" => Some((host, None)),
            _ => Some((host, Some(after.strip_prefix(':')?))),
        };
    }
    match place.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((place, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((place, None)),
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.transport == Some(Transport::Tls) { "turns" } else { "turn" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}:[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}:{}:{}", self.host, self.port),
        }
    }
}

impl Uri {
    /// The server's address; of a name, the first.
    ///
    /// # Errors
    /// The name is not known.
    pub fn resolve(&self) -> Result<SocketAddr> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut found = found.with_context(|| format!("{} is not known", self.host))?;
        found.next().with_context(|| format!("{} has no address", self.host))
    }
}

/// A name and a password, prepared (RFC 8265).
#[derive(Clone)]
pub struct Login {
    /// USERNAME.
    pub username: String,
    /// Never shown.
    pub password: String,
}

impl Login {
    /// From the flags; `unix` is the time since 1970, from which REST names expire in a day.
    ///
    /// # Errors
    /// Neither of the two ways, or both of them; a text that RFC 8265 refuses.
    pub fn of(
        user: Option<&str>,
        password: Option<&str>,
        secret: Option<&str>,
        unix: Duration,
    ) -> Result<Login> {
        let (username, password) = match (password, secret) {
            (Some(_), Some(_)) => bail!("give a password or a secret, not both"),
            (Some(password), None) => {
                (user.context("a password needs --user")?.to_owned(), password.to_owned())
            }
            (None, Some(secret)) => {
                let expires = unix.as_secs() + 86_400;
                let username = format!("{expires}:{}", user.unwrap_or("turnwire-load"));
                let password = rest_password(secret.as_bytes(), &username);
                (username, password)
            }
            (None, None) => bail!(
                "the server asks who we are: give --user and --password, or --auth-secret \
                 (or TURNWIRE_LOAD_PASSWORD, TURNWIRE_LOAD_AUTH_SECRET)"
            ),
        };
        Ok(Login {
            username: prepare(&username).context("the username")?,
            password: prepare(&password).context("the password")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_every_way_that_people_write_them() {
        let cases = [
            ("turn:relay.example", "relay.example", 3478, None),
            ("turn:relay.example:99?transport=tcp", "relay.example", 99, Some(Transport::Tcp)),
            ("turns:relay.example", "relay.example", 5349, Some(Transport::Tls)),
            ("turns:10.0.0.1:443?transport=tcp", "10.0.0.1", 443, Some(Transport::Tls)),
            ("127.0.0.1:3478", "127.0.0.1", 3478, None),
            ("turn:[2001:db8::1]:80", "2001:db8::1", 80, None),
            ("2001:db8::1", "2001:db8::1", 3478, None),
            ("relay", "relay", 3478, None),
        ];
        for (text, host, port, transport) in cases {
            let uri: Uri = text.parse().unwrap();
            assert_eq!(uri, Uri { host: host.into(), port, transport }, "{text}");
        }
        for text in ["", "turn:", "turn:a:b", "turn:a:0", "turn:[::1", "turn:a?x=y", "http://a/"] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_makes_a_name_that_expires_and_the_password_of_it() {
        // given
        let unix = Duration::from_secs(1_000_000);
        // when
        let login = Login::of(Some("bob"), None, Some("s3cret"), unix).unwrap();
        // then
        assert_eq!(login.username, "1086400:bob");
        assert_eq!(login.password, rest_password(b"s3cret", "1086400:bob"));
        assert!(Login::of(Some("bob"), Some("x"), Some("y"), unix).is_err());
        assert!(Login::of(None, Some("x"), None, unix).is_err());
        assert!(Login::of(Some("bob"), None, None, unix).is_err());
    }
}
