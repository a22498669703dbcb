//! Connecting a stream, and what TLS believes.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::stream::Stream;

/// How long a connection and its handshake may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Where distributions keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What a TLS client believes, and the name that it asks for.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Believes the certificates in `ca`, or the system's; or anybody, if `insecure`.
    ///
    /// # Errors
    /// No certificates, or a name that is none.
    pub fn new(host: &str, ca: Option<&Path>, insecure: bool) -> Result<Tls> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS versions")?;
        let mut config = if insecure {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(ca)?).with_no_client_auth()
        };
        // RFC 7443
        config.alpn_protocols = vec![b"stun.turn".to_vec()];
        let name = ServerName::try_from(host.to_owned());
        let name = name.with_context(|| format!("{host} cannot be in a certificate"))?;
        Ok(Tls { config: Arc::new(config), name })
    }

    /// The handshake, on a connected socket that blocks.
    fn shake_hands(&self, mut socket: &TcpStream) -> io::Result<ClientConnection> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(connection)
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let path = match ca {
        Some(path) => path,
        None => {
            let found = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
            found.context("this system keeps no certificates that are known: give --tls-ca")?
        }
    };
    let name = path.display();
    let pem = fs::read(path).with_context(|| format!("reading {name}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| format!("{name} is not PEM"))?;
        // A system's list may have some that this TLS does not take; a list of one's own may not.
        let added = roots.add(certificate);
        if ca.is_some() {
            added.with_context(|| format!("a certificate in {name}"))?;
        }
    }
    if roots.is_empty() {
        bail!("{name} has no certificates");
    }
    Ok(roots)
}

/// A connection to the server, with TLS if `tls` is given.
///
/// # Errors
/// Nobody listens there, or the handshake fails; in words.
pub fn connect(
    server: SocketAddr,
    local: Option<IpAddr>,
    tls: Option<&Tls>,
) -> Result<Stream, String> {
    let plain = || -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(ip) = local {
            socket.bind(&SockAddr::from(SocketAddr::new(ip, 0)))?;
        }
        socket.connect_timeout(&SockAddr::from(server), CONNECT)?;
        let socket: TcpStream = socket.into();
        socket.set_read_timeout(Some(CONNECT))?;
        socket.set_write_timeout(Some(CONNECT))?;
        Ok(socket)
    };
    let socket = plain().map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there (does the server offer it?)".to_owned()
        }
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    })?;
    let tls =
        tls.map(|tls| tls.shake_hands(&socket)).transpose().map_err(|error| refusal(&error))?;
    Stream::new(socket, tls).map_err(|error| error.to_string())
}

/// A failed handshake as a user would say it.
fn refusal(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (inner, error.kind()) {
        (Some(rustls::Error::InvalidCertificate(why)), _) => {
            format!("its certificate is not believed ({why}): --tls-ca, or --tls-insecure")
        }
        (Some(rustls::Error::InvalidMessage(_)), _) => "it does not speak TLS there".to_owned(),
        (_, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it ended the TLS handshake".to_owned()
        }
        (_, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            "no answer to the TLS handshake (does it speak TLS there?)".to_owned()
        }
        _ => format!("the TLS handshake failed: {error}"),
    }
}

/// Believes any certificate, but checks that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
