//! What a server shows to TLS and DTLS clients: a certificate chain and its key.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, InconsistentKeys, ServerConfig};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The protocols of RFC 7443, in the order of preference. A client that offers none is served too.
const PROTOCOLS: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// A chain of certificates is a few KiB.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Largest DTLS record with its UDP and IP headers: below IPv6's minimum of 1,280 bytes.
const DTLS_MTU: usize = 1200;

/// First interval between retransmissions of a DTLS flight.
const DTLS_RETRANSMIT: Duration = Duration::from_millis(500);

/// A certificate chain and its private key, made ready for TLS and, where the key is an ECDSA one,
/// for DTLS.
pub struct Identity {
    tls: Arc<ServerConfig>,
    dtls: Option<DtlsIdentity>,
    key_path: PathBuf,
}

/// The same for DTLS.
pub(crate) struct DtlsIdentity {
    pub(crate) config: Arc<dimpl::Config>,
    pub(crate) certificate: dimpl::DtlsCertificate,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is not PEM with what was asked for.
    #[error("no {what} in {}: {reason}", path.display())]
    Pem {
        /// Certificate or private key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// TLS cannot use the pair.
    #[error("the certificate in {} cannot be used with the private key in {}: {reason}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        reason: String,
    },
    /// DTLS cannot use the key.
    #[error("the private key in {} cannot be used for DTLS: it must be an ECDSA key on P-256 or P-384", key.display())]
    KeyForDtls {
        /// The key's file.
        key: PathBuf,
    },
}

impl Identity {
    /// Reads a certificate chain (the server's own first) and its private key, both PEM.
    ///
    /// # Errors
    /// See [`IdentityError`]: each names the file and the reason.
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let chain = chain(certificate)?;
        let pem = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| IdentityError::Pem {
            what: "private key",
            path: key.into(),
            reason: error.to_string(),
        })?;
        let dtls = dtls(&chain[0], &private);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let unusable = |reason: String| IdentityError::Unusable {
            certificate: certificate.into(),
            key: key.into(),
            reason,
        };
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    IdentityError::Mismatch { certificate: certificate.into(), key: key.into() }
                }
                other => unusable(other.to_string()),
            })?;
        tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // resumption without state on this side
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        tls.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| unusable(error.to_string()))?;
        tls.send_tls13_tickets = 1;
        Ok(Identity { tls: Arc::new(tls), dtls, key_path: key.into() })
    }

    /// Says whether DTLS can use it.
    ///
    /// # Errors
    /// [`IdentityError::KeyForDtls`] for a key that is not an ECDSA one.
    pub fn check_dtls(&self) -> Result<(), IdentityError> {
        let unusable = || IdentityError::KeyForDtls { key: self.key_path.clone() };
        self.dtls.as_ref().map(|_| ()).ok_or_else(unusable)
    }

    pub(crate) fn tls(&self) -> &Arc<ServerConfig> {
        &self.tls
    }

    pub(crate) fn dtls(&self) -> Option<&DtlsIdentity> {
        self.dtls.as_ref()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("key", &self.key_path).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let read = || {
        let mut pem = Vec::new();
        // a device has no end
        if File::open(path)?.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem)? as u64 > PEM_BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {PEM_BYTES_MAX} bytes")));
        }
        Ok(pem)
    };
    read().map_err(|source| IdentityError::Read { path: path.into(), source })
}

/// All certificates of a file, at least one.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let fail =
        |reason: String| IdentityError::Pem { what: "certificate", path: path.into(), reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(fail("the file has none in PEM".into())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// The DTLS side, where the library takes the key: given another it would panic for each client.
fn dtls(leaf: &CertificateDer<'_>, key: &PrivateKeyDer<'_>) -> Option<DtlsIdentity> {
    let config = dimpl::Config::builder()
        .mtu(DTLS_MTU)
        .require_client_certificate(false)
        .use_server_cookie(true)
        .flight_start_rto(DTLS_RETRANSMIT)
        .build()
        .ok()?;
    let private_key = key.secret_der().to_vec();
    config.crypto_provider().key_provider.load_private_key(&private_key).ok()?;
    let certificate = dimpl::DtlsCertificate { certificate: leaf.to_vec(), private_key };
    Some(DtlsIdentity { config: Arc::new(config), certificate })
}
