# The images for both architectures, by a Rust image instead of this machine's tools. From the root of the tree:
#   VERSION=0.1.0 REVISION=$(git rev-parse HEAD) SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
#     docker buildx bake --file images/docker-bake.hcl --push
# The SBOMs, with binaries and root file systems, come by `... bake --file images/docker-bake.hcl files`.
# The builder needs a node for each architecture, or QEMU, which takes hours.

variable "REGISTRY" { default = "localhost" }
variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }
variable "SOURCE_DATE_EPOCH" { default = "0" }

group "default" { targets = ["images"] }

target "tree" {
  context    = "."
  dockerfile = "images/Containerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  # Times and the builder would be in it: the digest would be another one each time.
  attest     = ["type=provenance,disabled=true"]
  args = {
    VERSION           = VERSION
    REVISION          = REVISION
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
}

target "source" {
  inherits = ["tree"]
  target   = "source"
}

target "files" {
  inherits = ["source"]
  output   = ["type=local,dest=target/images"]
}

target "images" {
  name     = "podkit-${name}"
  matrix   = { name = ["seed", "proxy", "ship", "drain"] }
  inherits = ["tree"]
  target   = name
  contexts = { files = "target:source" }
  tags     = ["${REGISTRY}/podkit-${name}:${VERSION}"]
  output   = ["type=image,rewrite-timestamp=true"]
}
