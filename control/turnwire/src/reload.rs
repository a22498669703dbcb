//! Reading the configuration again while the relay runs.
//!
//! ```text
//!   SIGHUP, POST /reload -> thread "reload": file, users, secrets, certificate -> Fresh
//!                                                                                  |
//!                           control thread: all of it at once, or none of it <-----'
//! ```
//!
//! Reading and deriving users' keys takes as long as the files are large, so it is done beside the
//! control thread. What a change of takes a restart keeps the value that it runs with, and is named.

use std::sync::Arc;
use std::time::Duration;

use dataplane::Identity;
use turn::{Credentials, Policy};

use crate::banner::Guest;
use crate::cli::ServeArgs;
use crate::commands::given;
use crate::config::Config;
use crate::host::Host;
use crate::nonce_keys::NonceSecret;
use crate::server;
use crate::settings::{Problem, Problems, Settings, Source};

/// Reads what a running relay was started with.
#[derive(Debug)]
pub struct Reloader {
    args: ServeArgs,
    running: Settings,
    guest: Option<Guest>,
    dtls: bool,
}

/// A configuration that was read again: what of it can be carried out without a restart.
#[derive(Debug)]
pub struct Fresh {
    /// Users and secrets.
    pub credentials: Credentials,
    /// Which addresses may be peers.
    pub policy: Policy,
    /// What TLS and DTLS clients are shown, where there are any.
    pub identity: Option<Arc<Identity>>,
    /// What nonces are made of.
    pub nonce_secret: Option<NonceSecret>,
    /// How long draining may take.
    pub drain_timeout: Duration,
    /// The keys that were changed and take a restart.
    pub restart: Vec<&'static str>,
    /// What should be told.
    pub notes: Vec<String>,
}

impl Reloader {
    /// A reader for a relay that runs with these settings, and with a made-up user if nobody was
    /// configured. `dtls`: it serves by DTLS, which not every key is good for.
    pub fn new(args: ServeArgs, running: Settings, guest: Option<Guest>, dtls: bool) -> Reloader {
        Reloader { args, running, guest, dtls }
    }

    /// Reads everything again. The environment and the flags are those of the start.
    ///
    /// # Errors
    /// Every mistake, with its place: the caller goes on with what it has.
    pub fn read(&self) -> Result<Fresh, Problems> {
        let mut settings = given(&self.args, &|name| std::env::var(name).ok())?;
        let restart = settings.keep_running(&self.running);
        let mut config = Config::new(&settings)?;
        let identity = self.identity(&config)?;
        let host = Host::look().map_err(|error| {
            let message = format!("this host's addresses cannot be read: {error}");
            Problems(vec![Problem::new(&Source::Default("relay-ip"), message)])
        })?;
        if let (true, Some(guest)) = (config.credentials.is_empty(), &self.guest) {
            // It was added at the start already, to a realm that stays the same.
            let added = config.credentials.add_user(&guest.name, &guest.password);
            added.expect("the made-up user was taken before");
        }
        Ok(Fresh {
            policy: server::policy(&config, &host),
            credentials: config.credentials,
            identity,
            nonce_secret: config.features.nonce_secret,
            drain_timeout: config.features.drain_timeout,
            restart,
            notes: config.notes,
        })
    }

    fn identity(&self, config: &Config) -> Result<Option<Arc<Identity>>, Problems> {
        let Some(certificate) = &config.transports.certificate else { return Ok(None) };
        if self.dtls {
            let fit = certificate.identity.check_dtls();
            fit.map_err(|error| {
                Problems(vec![Problem::new(&certificate.key.source, error.to_string())])
            })?;
        }
        Ok(Some(Arc::clone(&certificate.identity)))
    }
}

/// What became of a reload, in words.
pub type Outcome = Result<String, String>;
