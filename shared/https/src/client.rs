//! A client whose certificates and secret follow their files.

use std::time::Duration;

use podkit_cli::chain;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Url};

use crate::dns::Names;
use crate::files::Files;
use crate::{Auth, Error, TlsFiles};

/// What a server asks for before it talks to us.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// How requests prove who sends them.
    pub auth: Auth,
    /// Which certificates are trusted and shown.
    pub tls: TlsFiles,
}

/// How long one request may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, to one address of the server.
    pub connect: Duration,
    /// From the first byte sent to the last byte of the answer; `None` where the caller bounds it.
    pub request: Option<Duration>,
}

/// A client for servers with one kind of access. It follows no redirects.
pub struct Client {
    access: Access,
    user_agent: &'static str,
    timeouts: Timeouts,
    client: reqwest::Client,
    tls: Files,
    secret: Files,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Reads the files and sets up the client. No connection is made.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it is given as.
    pub fn open(access: Access, user_agent: &'static str, timeouts: Timeouts) -> Result<Self, Error> {
        let unreadable = |(path, source)| Error::Unreadable { path, source };
        let tls = Files::read(access.tls.paths()).map_err(unreadable)?;
        let secret = Files::read(access.auth.file().cloned()).map_err(unreadable)?;
        let client = build(&access, user_agent, timeouts, &tls)?;
        let authorization = access.auth.header(&secret)?;
        Ok(Self { access, user_agent, timeouts, client, tls, secret, authorization })
    }

    /// A request with the proof of who sends it.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    /// Takes new certificates and secrets into use. `server` is for messages.
    pub fn refresh(&mut self, server: &str) {
        if self.secret.have_changed() {
            match self.access.auth.header(&self.secret) {
                Ok(authorization) => {
                    self.authorization = authorization;
                    tracing::info!("{server}: using the new secret");
                }
                Err(error) => tracing::warn!("{}; going on with the old secret", chain(&error)),
            }
        }
        if self.tls.have_changed() {
            match build(&self.access, self.user_agent, self.timeouts, &self.tls) {
                Ok(client) => {
                    self.client = client;
                    tracing::info!("{server}: using the new certificates");
                }
                Err(error) => tracing::warn!("{}; going on with the old certificates", chain(&error)),
            }
        }
    }
}

fn build(
    access: &Access,
    user_agent: &str,
    timeouts: Timeouts,
    tls: &Files,
) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(access.tls.config(tls)?)
        .dns_resolver(Names::default())
        .user_agent(user_agent)
        .connect_timeout(timeouts.connect)
        .redirect(Policy::none());
    if let Some(request) = timeouts.request {
        builder = builder.timeout(request);
    }
    builder.build().map_err(Error::Client)
}
