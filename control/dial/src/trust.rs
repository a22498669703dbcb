//! Whom a TLS or DTLS client believes.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use dimpl::DtlsCertificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where distributions keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What a client believes, and the name that it asks for.
#[derive(Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
    /// Made when DTLS is first used: its configuration costs 0.65 ms.
    dtls: OnceLock<(Arc<dimpl::Config>, DtlsCertificate)>,
}

impl Trust {
    /// Believes the certificates in `ca` (PEM), or the system's; or anybody, if `insecure`. `host`
    /// is the name or address that the certificate must be for.
    ///
    /// # Errors
    /// No certificates, or a name that cannot be in one: in words.
    pub fn new(host: &str, ca: Option<&Path>, insecure: bool) -> Result<Trust, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if insecure {
            Arc::new(Anybody(provider.clone()))
        } else {
            let roots = Arc::new(roots(ca)?);
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| format!("the certificates that are believed: {error}"))?
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS versions: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        // RFC 7443
        config.alpn_protocols = vec![b"stun.turn".to_vec()];
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} cannot be in a certificate"))?;
        Ok(Trust { config: Arc::new(config), verifier, name, dtls: OnceLock::new() })
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    pub(crate) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// DTLS gives the leaf certificate only, so a chain with intermediates is not believed.
    pub(crate) fn believes(&self, leaf: &[u8]) -> Result<(), String> {
        let leaf = CertificateDer::from(leaf);
        let verified =
            self.verifier.verify_server_cert(&leaf, &[], &self.name, &[], UnixTime::now());
        verified.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) fn dtls(&self) -> Result<(Arc<dimpl::Config>, DtlsCertificate), String> {
        if let Some(made) = self.dtls.get() {
            return Ok(made.clone());
        }
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|error| format!("a DTLS client's certificate: {error}"))?;
        let config = dimpl::Config::builder().build();
        let config = config.map_err(|error| format!("a DTLS client's configuration: {error}"))?;
        Ok(self.dtls.get_or_init(|| (Arc::new(config), certificate)).clone())
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let path = match ca {
        Some(path) => path,
        None => {
            let mut places = SYSTEM_ROOTS.iter().map(Path::new);
            places
                .find(|path| path.exists())
                .ok_or("this system keeps no certificates that are known: give --tls-ca")?
        }
    };
    let name = path.display();
    let pem = fs::read(path).map_err(|error| format!("reading {name}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("{name} is not PEM: {error}"))?;
        // A system's list may have some that this TLS does not take; a list of one's own may not.
        let added = roots.add(certificate);
        if ca.is_some() {
            added.map_err(|error| format!("a certificate in {name}: {error}"))?;
        }
    }
    if roots.is_empty() {
        return Err(format!("{name} has no certificates"));
    }
    Ok(roots)
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
