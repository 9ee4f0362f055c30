//! The files of the hub that are included here use loom's atomics.

fn main() {
    println!("cargo:rustc-cfg=loom");
}
