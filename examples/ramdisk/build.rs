fn main() {
    println!("cargo:rustc-link-arg-bins={}", std::env::var("DEP_XEN_RT_LINK").unwrap());
}
