//! nginx, as Debian packs it.

use std::path::Path;
use std::process::Command;

use super::{Carries, Job, Ports, program};
use crate::Result;

pub(super) fn command(job: &Job, ports: Ports, dir: &Path) -> Result<Command> {
    let Carries::Http = job.carries else {
        return Err("nginx takes part with HTTP only: Debian's has TCP in a module of its own".into());
    };
    let http2 = if job.http2 { " http2" } else { "" };
    let (ssl, certs) = match &job.certs {
        None => ("", String::new()),
        Some(certs) => (
            " ssl",
            format!(
                "ssl_certificate {}; ssl_certificate_key {};",
                certs.cert().display(),
                certs.key().display()
            ),
        ),
    };
    let config = format!(
        "daemon off;\nworker_processes {workers};\npid {dir}/pid;\nerror_log stderr;\n\
         events {{ worker_connections {sockets}; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 75s;\n\
           client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n\
           uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n\
           upstream origin {{ server 127.0.0.1:{origin}; keepalive {connections}; keepalive_requests 1000000000; }}\n\
           server {{\n    listen 127.0.0.1:{listen} reuseport backlog={backlog}{ssl}{http2};\n    {certs}\n    location / {{\n      proxy_pass http://origin;\n\
             proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n",
        workers = job.workers,
        dir = dir.display(),
        connections = job.connections,
        // nginx asks for 511, and a whole load connects at once.
        backlog = job.connections.max(511),
        // Twice what it needs: short of them it resets clients.
        sockets = job.connections * 4,
        origin = ports.origin,
        listen = ports.listen,
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new(program("nginx", "NGINX", "`apt-get install nginx-light` adds it")?);
    command.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(path);
    Ok(command)
}
