//! A connection of a TCP listener: one connection to the upstream, and bytes both ways.

use std::rc::Rc;

use tokio::net::TcpStream;

use crate::io::{Stall, cut};
use crate::listener::Service;
use crate::tunnel::tunnel;
use crate::upstream::connect;
use crate::worker::Seat;

/// Carries one client's connection to its end.
pub(crate) async fn serve(mut client: TcpStream, service: Rc<Service>, seat: Seat) {
    let counts = &service.state().connections;
    let mut upstream = match connect(&service.config.upstream).await {
        Ok(upstream) => upstream,
        Err(error) => {
            counts.upstream_errors.count(error.reason());
            service.complain(&podkit_cli::chain(&error));
            // A plain close could be taken for an upstream that had nothing to say.
            return cut(&client);
        }
    };
    let idle = service.config.timeouts.idle;
    if let Err(stall) = tunnel(&mut client, &mut upstream, [None, None], idle, &seat, counts).await {
        match stall {
            Stall::Timeout => {
                tracing::debug!(listener = service.config.name, "a connection was idle too long")
            }
            Stall::Broken(error) => {
                tracing::debug!(listener = service.config.name, "a connection broke: {error}")
            }
        }
    }
}
