package mls

import "testing"

func TestVectorsWelcome(t *testing.T) {
	type vector struct {
		Suite      Suite    `json:"cipher_suite"`
		InitKey    hexBytes `json:"init_priv"`
		SignerPub  hexBytes `json:"signer_pub"`
		KeyPackage hexBytes `json:"key_package"`
		Welcome    hexBytes `json:"welcome"`
	}
	count := countVectors(t, "welcome.json")
	for _, v := range loadVectors[vector](t, "welcome.json") {
		if !count.suite(v.Suite) {
			continue
		}
		kp, err := UnmarshalMLSMessage(v.KeyPackage)
		ok(t, "KeyPackage", err)
		ok(t, "KeyPackage", kp.KeyPackage.Verify())
		welcome, err := UnmarshalMLSMessage(v.Welcome)
		ok(t, "Welcome", err)
		key := JoinKey{kp.KeyPackage, &KeyPackagePrivate{Suite: v.Suite, InitKey: Secret(v.InitKey)}}
		o, err := openWelcome(&Config{}, nil, &JoinParams{Welcome: welcome.Welcome, Keys: []JoinKey{key}})
		ok(t, "open Welcome", err)
		ok(t, "signature of GroupInfo", o.info.Verify(v.SignerPub))
		epochSecret := deriveEpochSecret(v.Suite, o.joiner, o.psk, o.info.Context.Marshal())
		secrets := deriveEpochSecrets(v.Suite, epochSecret)
		ok(t, "confirmation tag", secrets.checkConfirmationTag(v.Suite, o.info.Context.ConfirmedTranscriptHash, o.info.ConfirmationTag))
		count.ok()
	}
}
