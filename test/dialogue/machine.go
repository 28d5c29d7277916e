package dialogue

import "context"

// addMachines adds what happens to bridges and homeservers.
func addMachines() {
	machine("bridge", "is killed", "ends by SIGKILL", func(_ context.Context, r *runner, name string) error {
		r.world.bridges[name].Kill()
		return nil
	})
	machine("bridge", "stops", "ends by SIGTERM, within 20 s", func(_ context.Context, r *runner, name string) error {
		return r.world.bridges[name].Stop()
	})
	machine("bridge", "starts", "starts again on the same directory", func(ctx context.Context, r *runner, name string) error {
		return r.world.bridges[name].Start(ctx)
	})
	machine("bridge", "begins anew", "stops, and starts again with an empty database: all that it knew is lost, its people's keys with it", func(ctx context.Context, r *runner, name string) error {
		return r.world.bridges[name].beginAnew(ctx, r.world)
	})
	machine("homeserver", "is killed", "ends by SIGKILL", func(_ context.Context, r *runner, name string) error {
		r.world.homeservers[name].Kill()
		return nil
	})
	machine("homeserver", "stops", "ends by SIGTERM", func(_ context.Context, r *runner, name string) error {
		return r.world.homeservers[name].Stop()
	})
	machine("homeserver", "starts", "starts again on the same directory", func(ctx context.Context, r *runner, name string) error {
		return r.world.homeservers[name].Start(ctx)
	})
}
