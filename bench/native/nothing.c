// The smallest program: what a container runtime starts when only the start is measured.
int main(void) { return 0; }
