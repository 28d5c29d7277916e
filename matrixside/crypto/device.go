package crypto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/client"
)

// Settings of the device, all in one scope.
const (
	settingScope  = "encryption"
	settingDevice = "device" // counts the devices the bot has had
	settingSent   = "sent "  // and a Matrix room: the last encrypted rows
)

// requestTimeout bounds one conversation with the homeserver about keys.
const requestTimeout = 45 * time.Second

var errDeviceLost = errors.New("the homeserver knows other keys of the device than we do")

// account names the device's rows in the library's tables. fresh makes a new name, and with it a new device:
// after the database was restored the old one must not go on, because it would use keys twice.
func (c *Crypto) account(ctx context.Context, fresh bool) (string, error) {
	text, err := c.cfg.Store.Setting(ctx, settingScope, settingDevice)
	if err != nil {
		return "", fmt.Errorf("read the number of the device: %w", err)
	}
	n, _ := strconv.ParseInt(text, 10, 64)
	if fresh || n == 0 {
		n++
		err := c.cfg.Store.Tx(ctx, func(tx *store.Tx) error {
			return tx.SetSetting(ctx, settingScope, settingDevice, strconv.FormatInt(n, 10))
		})
		if err != nil {
			return "", fmt.Errorf("write the number of the device: %w", err)
		}
	}
	return "bot-" + strconv.FormatInt(n, 10), nil
}

// openDevice logs in as the stored device, or as a new one. When the homeserver lost the device's keys (a
// restored homeserver), the bot gets a new device.
func (c *Crypto) openDevice(ctx context.Context) error {
	err := c.tryDevice(ctx)
	if !errors.Is(err, errDeviceLost) {
		return err
	}
	c.cfg.Log.Warn().Err(err).Msg("the bot gets a new device")
	account, err := c.account(ctx, true)
	if err != nil {
		return err
	}
	c.keys.AccountID, c.keys.DeviceID, c.keys.Account = account, "", nil
	c.keys.InitFields()
	return c.tryDevice(ctx)
}

func (c *Crypto) tryDevice(ctx context.Context) error {
	stored, err := c.keys.FindDeviceID(ctx)
	if err != nil {
		return fmt.Errorf("read the device: %w", err)
	}
	device, err := c.cfg.Client.LoginBot(ctx, stored)
	if client.ClassOf(err) == client.Refused {
		// The homeserver lets appservices make devices instead (MSC4190).
		refused := err
		if device, err = c.cfg.Client.MakeDevice(ctx, stored); err != nil {
			return errors.Join(refused, err)
		}
	}
	if err != nil {
		return err
	}
	c.cli, c.ownSync = c.cfg.Client.DeviceClient(device), device.Token != ""
	c.keys.DeviceID = device.ID
	return c.openMachine(ctx)
}

func (c *Crypto) openMachine(ctx context.Context) error {
	log := c.cfg.Log.With().Str("device", string(c.cli.DeviceID)).Logger()
	m := crypto.NewOlmMachine(c.cli, &log, c.keys, c.rooms)
	// Nothing is asked of the homeserver while a transaction of the database is open: see receive.
	m.DisableDecryptKeyFetching = true
	allow := m.AllowKeyShare
	m.AllowKeyShare = func(ctx context.Context, d *id.Device, want event.RequestedKeyInfo) *crypto.KeyShareRejection {
		return c.answer(ctx, allow(ctx, d, want), d, want)
	}
	// What is inside an event is checked by matrixside/event.
	m.IgnorePostDecryptionParseErrors = true
	m.SessionReceived = func(ctx context.Context, room id.RoomID, session id.SessionID, _ uint32) {
		if w := watchOf(ctx); w != nil {
			w.mu.Lock()
			w.came = append(w.came, roomKey{room, session})
			w.mu.Unlock()
		}
	}
	if c.stop != nil {
		c.stop()
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.SetBackgroundCtx(background)
	c.mach, c.stop = m, stop
	if err := m.Load(ctx); err != nil {
		return fmt.Errorf("load the device's keys: %w", err)
	}
	return c.agree(ctx)
}

// agree compares the device's keys with what the homeserver has, and uploads them when it has none.
func (c *Crypto) agree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.cli.QueryKeys(ctx, &mautrix.ReqQueryKeys{DeviceKeys: mautrix.DeviceKeysRequest{c.cli.UserID: {c.cli.DeviceID}}})
	if err != nil {
		return fmt.Errorf("ask for the device's keys: %w", err)
	}
	account := c.mach.GetAccount()
	there, ok := resp.DeviceKeys[c.cli.UserID][c.cli.DeviceID]
	switch {
	case !ok || len(there.Keys) == 0:
		if account.Shared {
			return fmt.Errorf("%w: it has none", errDeviceLost)
		}
		if err := c.mach.ShareKeys(ctx, -1); err != nil {
			return fmt.Errorf("upload the device's keys: %w", err)
		}
	case there.Keys.GetEd25519(c.cli.DeviceID) != account.SigningKey():
		return errDeviceLost
	case !account.Shared: // the answer to the upload was lost
		account.Shared = true
		if err := c.keys.PutAccount(ctx, account); err != nil {
			return fmt.Errorf("write the device's keys: %w", err)
		}
	}
	return nil
}

// selfSign signs the device with the bot's cross-signing keys, which are made first where there are none. Their
// private parts are kept sealed, and at the homeserver under a recovery key that is kept sealed too.
func (c *Crypto) selfSign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := c.loadSigning(ctx); err != nil {
		return err
	}
	if err := c.publishSigning(ctx); err != nil {
		return err
	}
	if _, signed, err := c.mach.GetOwnVerificationStatus(ctx); err != nil || signed {
		return err
	}
	if err := c.mach.SignOwnDevice(ctx, c.mach.OwnIdentity()); err != nil {
		return fmt.Errorf("sign the device: %w", err)
	}
	if err := c.mach.SignOwnMasterKey(ctx); err != nil {
		return fmt.Errorf("sign the master key: %w", err)
	}
	return nil
}

// loadSigning reads the cross-signing keys, or makes them and stores them before anybody learns of them.
func (c *Crypto) loadSigning(ctx context.Context) error {
	seeds, err := c.cfg.Store.Secret(ctx, secretSigning)
	if err == nil {
		var keys crypto.CrossSigningSeeds
		if err := json.Unmarshal(seeds, &keys); err != nil {
			return fmt.Errorf("read cross-signing keys: %w", err)
		}
		return c.mach.ImportCrossSigningKeys(keys)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read cross-signing keys: %w", err)
	}
	keys, err := c.mach.GenerateCrossSigningKeys()
	if err != nil {
		return fmt.Errorf("make cross-signing keys: %w", err)
	}
	own := keys.Seeds()
	if seeds, err = json.Marshal(own); err != nil {
		return fmt.Errorf("write cross-signing keys: %w", err)
	}
	if err := c.setSecret(ctx, secretSigning, seeds); err != nil {
		return fmt.Errorf("write cross-signing keys: %w", err)
	}
	return c.mach.ImportCrossSigningKeys(own)
}

// publishSigning uploads the public keys unless the homeserver has them. A homeserver that has others of the
// bot wants a password for the change, which a bot has not.
func (c *Crypto) publishSigning(ctx context.Context) error {
	resp, err := c.cli.QueryKeys(ctx, &mautrix.ReqQueryKeys{DeviceKeys: mautrix.DeviceKeysRequest{c.cli.UserID: {}}})
	if err != nil {
		return fmt.Errorf("ask for cross-signing keys: %w", err)
	}
	keys := c.mach.CrossSigningKeys
	for _, k := range resp.MasterKeys[c.cli.UserID].Keys {
		if k == keys.MasterKey.PublicKey() {
			return nil
		}
	}
	recovery, err := c.mach.SSSS.GenerateAndUploadKey(ctx, "")
	if err != nil {
		return fmt.Errorf("make a recovery key: %w", err)
	}
	if err := c.setSecret(ctx, secretRecovery, []byte(recovery.RecoveryKey())); err != nil {
		return fmt.Errorf("write the recovery key: %w", err)
	}
	if err := c.mach.UploadCrossSigningKeysToSSSS(ctx, recovery, keys); err != nil {
		return fmt.Errorf("upload cross-signing keys: %w", err)
	}
	if err := c.mach.SSSS.SetDefaultKeyID(ctx, recovery.ID); err != nil {
		return fmt.Errorf("name the recovery key: %w", err)
	}
	if err := c.mach.PublishCrossSigningKeys(ctx, keys, nil); err != nil {
		return fmt.Errorf("publish cross-signing keys: %w", err)
	}
	return nil
}

// RecoveryKey is the key under which the bot's cross-signing keys lie at the homeserver, for an operator who
// wants to log in as the bot with a Matrix client; store.ErrNotFound when there is none.
func (c *Crypto) RecoveryKey(ctx context.Context) (string, error) {
	b, err := c.cfg.Store.Secret(ctx, secretRecovery)
	return string(b), err
}

// Signed reports whether the device is signed by the bot's cross-signing keys.
func (c *Crypto) Signed(ctx context.Context) (bool, error) {
	if !c.started.Load() {
		return false, ErrNotStarted
	}
	_, signed, err := c.mach.GetOwnVerificationStatus(ctx)
	return signed, err
}
